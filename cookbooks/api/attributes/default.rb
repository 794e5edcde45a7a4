# Without a version from a deployment or from here, whatever is installed stays.
default['api']['version'] = nil

default['api']['config']['port'] = 8081
default['api']['config']['database'] = 'mongodb://10.77.0.6:27017/shop'
