require_relative '../../spec_helper'

describe 'api::default' do
  before { stub_command('systemctl --quiet is-failed api').and_return(false) }

  context 'with a version from a deployment' do
    override_attributes['bgdeploy']['versions'] = { 'api' => '2.0.0-1' }

    it 'deploys exactly that' do
      is_expected.to deploy_bgdeploy_component('api').with(version: '2.0.0-1', restart: false)
    end

    it 'configures api' do
      is_expected.to deploy_bgdeploy_component('api').with(
        config_path: '/etc/api/api.json', config_group: 'api', config_mode: '0640',
        config: { 'port' => 8081, 'database' => 'mongodb://10.77.0.6:27017/shop' }
      )
    end

    it 'takes the packages from the shared repository' do
      is_expected.to deploy_bgdeploy_component('api').with(repository_url: 'http://10.77.0.6:8000')
    end
  end

  context 'with a restart asked for' do
    override_attributes['bgdeploy']['restart'] = ['api']

    it { is_expected.to deploy_bgdeploy_component('api').with(restart: true) }
  end

  context 'with a restart asked for somebody else' do
    override_attributes['bgdeploy']['restart'] = ['other']

    it { is_expected.to deploy_bgdeploy_component('api').with(restart: false) }
  end

  context 'without a version from anywhere' do
    it 'leaves what is installed' do
      is_expected.to deploy_bgdeploy_component('api').with(version: nil)
    end
  end

  context 'with a version from the site and none from a deployment' do
    override_attributes['api']['version'] = '1.0.0-1'

    it { is_expected.to deploy_bgdeploy_component('api').with(version: '1.0.0-1') }
  end

  context 'with a key of the site' do
    override_attributes['bgdeploy']['repository']['gpgkey'] = 'http://keys.example.com/shop'

    it { is_expected.to deploy_bgdeploy_component('api').with(gpgkey: 'http://keys.example.com/shop') }
  end

  context 'on a host with its component inside the resource' do
    step_into :bgdeploy_component
    override_attributes['bgdeploy']['versions'] = { 'api' => '2.0.0-1' }

    it 'converges to a package, a file and a service' do
      is_expected.to install_dnf_package('api').with(version: '2.0.0-1')
      is_expected.to render_file('/etc/api/api.json').with_content('"port": 8081')
      is_expected.to start_service('api')
    end
  end
end
