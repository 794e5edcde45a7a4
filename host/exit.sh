#!/bin/sh
# exit FOLDER: systemd's own word on how a detached run ended (ExecStopPost), safe on the disk before the unit is gone. Where the
# disk is full or read-only it lies in /run: better than nothing, and gone with the next boot.
umask 077
said="$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS"
written() { echo "$said" >"$1" && [ "$(cat "$1")" = "$said" ] && sync "$1"; }
if written "$1/exit.new" 2>/dev/null && mv "$1/exit.new" "$1/exit"; then
    sync "$1"
else
    rm -f "$1/exit.new"
    mkdir -p /run/bgdeploy-host
    echo "$said" >"/run/bgdeploy-host/${1##*/}.exit"
fi
