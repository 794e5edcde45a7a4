# Without a version from a deployment or from here, whatever is installed stays.
default['web']['version'] = nil

default['web']['config']['port'] = 8080
default['web']['config']['api'] = 'http://127.0.0.1:8081'
