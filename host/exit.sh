#!/bin/sh
# exit FOLDER: systemd's own word on how a detached run ended (ExecStopPost), safe on the disk before the unit is gone.
umask 077
echo "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS" >"$1/exit.new" && sync "$1/exit.new"
mv "$1/exit.new" "$1/exit"
sync "$1"
