# One version of Chef for the specs, whatever else the gem folder holds.
gem 'chef', ENV['CHEF_VERSION'] || '~> 18.11'
require 'chefspec'

RSpec.configure do |config|
  config.cookbook_path = File.expand_path('../..', __dir__)
  config.platform = ENV['CHEFSPEC_PLATFORM'] || 'redhat'
  config.version = ENV['CHEFSPEC_VERSION'] || '9'
  config.log_level = :fatal
end
