# RPM calls this on an upgrade too, with 1: then the service goes on.
if [ "$1" = 0 ]; then
    systemctl disable --now @NAME@.service || :
fi
