"""What bgdeploy-host does on a host, as root. Python 3.6 and its standard library only (EL 8's platform-python)."""
