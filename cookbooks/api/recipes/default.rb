#
# Cookbook:: api
# Recipe:: default
#

bgdeploy_component 'api' do
  version node['bgdeploy']['versions']['api'] || node['api']['version']
  repository_url node['bgdeploy']['repository']['url']
  gpgkey node['bgdeploy']['repository']['gpgkey'] if node['bgdeploy']['repository']['gpgkey']
  config_path '/etc/api/api.json'
  config node['api']['config'].to_h
  config_group 'api'
  config_mode '0640'
  restart node['bgdeploy']['restart'].include?('api')
end
