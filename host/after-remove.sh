# Python's cache beside the modules is not in the package. What is known of past runs stays.
if [ "$1" = 0 ]; then
    rm -rf /usr/lib/bgdeploy-host
fi
