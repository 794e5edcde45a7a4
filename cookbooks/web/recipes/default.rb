#
# Cookbook:: web
# Recipe:: default
#

bgdeploy_component 'web' do
  version node['bgdeploy']['versions']['web'] || node['web']['version']
  repository_url node['bgdeploy']['repository']['url']
  gpgkey node['bgdeploy']['repository']['gpgkey'] if node['bgdeploy']['repository']['gpgkey']
  config_path '/etc/web/web.json'
  config node['web']['config'].to_h
  config_group 'web'
  config_mode '0640'
  restart node['bgdeploy']['restart'].include?('web')
end
