#!/bin/sh
# run FOLDER COMMAND...: the command of a detached run, with its output in FOLDER/out. Plain arguments only: systemd 252 mangles
# the escapes of a transient unit at the next daemon-reload, which any RPM's scriptlet may cause. systemd 239 (EL 8) has neither
# StandardOutput=append: nor Type=exec, so the output is opened here.
folder=$1
shift
exec >>"$folder/out" 2>&1 </dev/null
exec "$@"
