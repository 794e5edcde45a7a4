# systemd must know the unit as this version has it. Starting and restarting is Chef's to do.
systemctl daemon-reload || :
