"""The lease, and a person's hold, as files on one host of the site, changed over SSH: what `lock_host` of the inventory means.

One shell script of ours does it, under flock on that host, so that a change is whole or not at all whoever else is at it. Ages
are by that host's own uptime, which nobody can set. The folder is /var/lib/bgdeploy-lease where an administrator made one, else
.bgdeploy in the home of the SSH user: all drivers of a site must log in to one and the same place.
"""

import json
from urllib.parse import quote

from bgdeploy import clean
from bgdeploy.errors import NoAnswer, Refused
from bgdeploy.outside import lease
from bgdeploy.outside.ssh import Shell
from bgdeploy.site import Host

LIMIT = 8.0             # seconds for one question; asked a second time if its answer was lost at once
FOLDER = "/var/lib/bgdeploy-lease"

# $1 verb, $2 name, $3 folder, then the verb's own; a holder or a hold comes on stdin. A lease file is a line
# `TOKEN RENEWED TTL BOOT COUNT TAKEN` (times in hundredths of a second of uptime), then the holder as JSON.
# A stamp is TOKEN:RENEWED:COUNT, - where nothing lies, or a checksum where odd bytes do, which might not come back as they went.
SCRIPT = r"""
umask 077
d=$3
if [ -d "$d" ]; then umask 007
else d=${HOME:-/nowhere}/.bgdeploy; mkdir -p "$d" 2>/dev/null; fi
v=$1 n=$2
shift 3
command -v flock >/dev/null || { echo lacks flock; exit 5; }
f=$d/$n.lease h=$d/$n.hold
( : >>"$d/$n.guard" ) 2>/dev/null || { echo "$d"; ls -ld "$d" 2>&1; exit 3; }
exec 9>>"$d/$n.guard"
flock -w 3 9 || { echo "$d/$n.guard"; exit 4; }
read -r up x </proc/uptime
up=${up%.*}${up#*.}
read -r boot </proc/sys/kernel/random/boot_id
s=- t= u= l= b= c= k=
[ ! -f "$f" ] || { read -r t u l b c k <"$f"; s=$t:$u:$c; }
case $s in *[!0-9A-Za-z:._-]*) s=odd:$(cksum <"$f" | tr " " .) ;; esac
write() { cat >"$1.$$" && mv -f "$1.$$" "$1" && echo yes; }
case $v in
look) printf "%s %s %s\n" "$s" "$up" "$boot"; [ ! -f "$f" ] || cat "$f" ;;
put) if [ "$s" = "$1" ]; then { echo "$2 $up $3 $boot 0 $up"; cat; } | write "$f"; else echo no; fi ;;
renew)
    if [ -n "$t" ] && [ "$t" = "$1" ]
    then { echo "$t $up $2 $boot $((c + 1)) $k"; sed 1d "$f"; } | write "$f"
    else echo no; fi ;;
drop) if [ -f "$f" ] && [ "$t" = "$1" ]; then rm -f "$f" && echo yes; else echo no; fi ;;
hold) write "$h" ;;
held) if [ -f "$h" ]; then echo yes; cat "$h"; else echo no; fi ;;
unhold) rm -f "$h" && echo yes ;;
esac
"""


def open_host(site, shell):
    """The place of a site with `lock_host`. :param shell: ssh.Shell, or None: one of its own."""
    host = site.host(site.lock_host) or Host(site.lock_host, "", site.lock_host)
    return HostLease(host, site.name, shell or Shell(site), shell is None)


class HostLease:
    """A place as lease.py describes it."""

    shared = True

    def __init__(self, host, site, shell, own):
        self._host, self._site, self._shell, self._own = host, site, shell, own
        self.name = f"host {host.name}"

    def read(self):
        head, _, rest = self._ask("look").partition("\n")
        stamp, up, boot = head.rsplit(" ", 2)
        if stamp == "-":
            return None
        line, _, holder = rest.partition("\n")
        try:
            token, renewed, ttl, theirs, _, taken = line.split()
            here = theirs == boot       # else the host has been restarted since, and its uptime says nothing
            quiet, age = ((int(up) - int(then)) / 100 if here else None for then in (renewed, taken))
            return lease.Slip(token, dict(json.loads(holder)), float(ttl), stamp, quiet, age)
        except (TypeError, ValueError, RecursionError):
            return lease.Slip("", stamp=stamp)      # cut short by a power failure, say: it is watched before it is replaced

    def put(self, old, token, holder, ttl):
        text = json.dumps(holder, default=str).encode() + b"\n"
        if self._ask("put", old.stamp if old else "-", token, str(ttl), stdin=text) == "yes":
            return True
        found = self.read()             # the first answer may have been lost
        return found is not None and found.token == token

    def renew(self, token, ttl):
        return self._ask("renew", token, str(ttl)) == "yes"

    def drop(self, token):
        return self._ask("drop", token) == "yes"

    def read_hold(self):
        said, _, text = self._ask("held").partition("\n")
        if said == "no":
            return None
        try:
            return dict(json.loads(text)) or {"reason": "a hold without a reason"}
        except (TypeError, ValueError, RecursionError):         # or empty, after a power failure: somebody froze the site
            return {"reason": f"a hold that cannot be read: {clean.line(text, 200)}"}

    def put_hold(self, document):
        self._change("hold", stdin=json.dumps(document).encode() + b"\n")

    def drop_hold(self):
        self._change("unhold")

    def close(self):
        if self._own:
            self._shell.close()

    def _change(self, verb, stdin=None):
        if self._ask(verb, stdin=stdin) != "yes":
            raise NoAnswer(f"{self._host.name}: the hold could not be changed there")

    def _ask(self, *words, stdin=None, again=True):
        """What the script says. :raises NoAnswer, Refused."""
        verb, *rest = words
        began = lease.boottime()
        argv = ["/bin/sh", "-c", SCRIPT, "bgdeploy-lease", verb, quote(self._site, safe=""), FOLDER, *rest]
        try:
            answer = self._shell.run(self._host, argv, stdin=stdin, limit=LIMIT)
        except NoAnswer:
            if again and lease.boottime() - began < LIMIT / 2:      # lost at once; a second silence would cost too long
                return self._ask(*words, stdin=stdin, again=False)
            raise
        said = answer.out.decode("utf-8", "replace").strip()
        if answer.exit == 0 and said:
            return said
        if answer.exit == 3:
            raise Refused(f"{self._host.name}: {self._who()} cannot write the folder of the lock: {clean.line(said, 300)}",
                          f"give it to that user, or make {FOLDER} on {self._host.name} for the group of all who deploy")
        if answer.exit == 4:
            raise NoAnswer(f"{self._host.name}: somebody has been in the middle of changing the lock for 3 s; "
                           f"fuser {clean.line(said, 200)} there names him")
        if answer.exit == 5:
            raise Refused(f"{self._host.name}: has no flock, which the lock needs", f"install util-linux on {self._host.name}")
        raise NoAnswer(f"{self._host.name}: the lock could not be changed there (exit {answer.exit}): "
                       f"{clean.line(answer.err, 300) or clean.line(said, 200)}")

    def _who(self):
        return self._host.user or "the SSH user"
