# A component that comes back after a real removal begins in standby, whatever it was before.
if [ "$1" = 0 ]; then
    rm -rf /var/lib/bgdeploy-heartbeat/@NAME@
fi
systemctl daemon-reload || :
