# The user the service runs as, and the group that may read the heartbeat's token. Runs before every install and upgrade.
getent group bgdeploy >/dev/null || groupadd --system bgdeploy
getent passwd @USER@ >/dev/null ||
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin @USER@
