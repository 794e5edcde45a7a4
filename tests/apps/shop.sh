#!/bin/bash
# A heartbeat in shell, level basic: one process a request, as inetd and systemd's sockets start it. shop.sh FOLDER
state=$1/state

answer() {
    printf '%s\r\n' "HTTP/1.1 $1" 'Content-Type: text/plain' 'Cache-Control: no-store' "Content-Length: ${#2}" \
        'Connection: close' ''
    [ "$method" = HEAD ] || printf '%s' "$2"
    exit 0
}

word() {
    read -r first 2>/dev/null < "$state"
    [ "$first" = live ] && echo live || echo standby
}

IFS=' ' read -r method path _
length=0 given=
while IFS= read -r line && line=${line%$'\r'} && [ -n "$line" ]; do
    case ${line,,} in
        content-length:*) length=${line#*:} length=${length// /} ;;
        authorization:*) given=${line#*: } ;;
    esac
done
[ "$path" = /heartbeat ] || answer '404 Not Found' $'no such page\n'
case $method in
    GET|HEAD) answer '200 OK' "$(word)"$'\n' ;;
    PUT) ;;
    *) answer '405 Method Not Allowed' $'GET, HEAD or PUT\n' ;;
esac
[[ $length =~ ^[0-9]{1,2}$ ]] || answer '400 Bad Request' $'live or standby\n'
[ "$length" = 0 ] || IFS= read -r -N "$length" body
[ -n "$given" ] || answer '401 Unauthorized' $'a token, please\n'
[ "$given" = "Bearer $(cat "$1/token")" ] || answer '403 Forbidden' $'wrong token\n'
[ "$body" = live ] || [ "$body" = standby ] || answer '400 Bad Request' $'live or standby\n'
new=$(mktemp "$state.XXXXXX") && echo "$body" > "$new" && sync "$new" && mv "$new" "$state" && sync "$1" ||
    answer '500 Internal Server Error' $'not stored\n'
answer '200 OK' "$body"$'\n'
