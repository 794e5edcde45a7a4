require_relative '../../spec_helper'

describe 'web::default' do
  before { stub_command('systemctl --quiet is-failed web').and_return(false) }

  context 'with a version from a deployment' do
    override_attributes['bgdeploy']['versions'] = { 'web' => '2.0.0-1' }

    it 'deploys exactly that' do
      is_expected.to deploy_bgdeploy_component('web').with(version: '2.0.0-1', restart: false)
    end

    it 'configures web' do
      is_expected.to deploy_bgdeploy_component('web').with(
        config_path: '/etc/web/web.json', config_group: 'web', config_mode: '0640',
        config: { 'port' => 8080, 'api' => 'http://127.0.0.1:8081' }
      )
    end

    it 'takes the packages from the shared repository' do
      is_expected.to deploy_bgdeploy_component('web').with(repository_url: 'http://10.77.0.6:8000')
    end
  end

  context 'with a restart asked for' do
    override_attributes['bgdeploy']['restart'] = ['web']

    it { is_expected.to deploy_bgdeploy_component('web').with(restart: true) }
  end

  context 'with a restart asked for somebody else' do
    override_attributes['bgdeploy']['restart'] = ['other']

    it { is_expected.to deploy_bgdeploy_component('web').with(restart: false) }
  end

  context 'without a version from anywhere' do
    it 'leaves what is installed' do
      is_expected.to deploy_bgdeploy_component('web').with(version: nil)
    end
  end

  context 'with a version from the site and none from a deployment' do
    override_attributes['web']['version'] = '1.0.0-1'

    it { is_expected.to deploy_bgdeploy_component('web').with(version: '1.0.0-1') }
  end

  context 'with a key of the site' do
    override_attributes['bgdeploy']['repository']['gpgkey'] = 'http://keys.example.com/shop'

    it { is_expected.to deploy_bgdeploy_component('web').with(gpgkey: 'http://keys.example.com/shop') }
  end

  context 'on a host with its component inside the resource' do
    step_into :bgdeploy_component
    override_attributes['bgdeploy']['versions'] = { 'web' => '2.0.0-1' }

    it 'converges to a package, a file and a service' do
      is_expected.to install_dnf_package('web').with(version: '2.0.0-1')
      is_expected.to render_file('/etc/web/web.json').with_content('"port": 8080')
      is_expected.to start_service('web')
    end
  end
end
