require_relative '../../spec_helper'

describe 'bgdeploy_component' do
  step_into :bgdeploy_component

  before { stub_command('systemctl --quiet is-failed web').and_return(false) }

  context 'with a version and a configuration' do
    recipe do
      bgdeploy_component 'web' do
        version '2.0.0-1'
        repository_url 'http://repo.example.com/shop'
        config_path '/etc/web/web.json'
        config('port' => 8080)
        config_group 'web'
        config_mode '0640'
      end
    end

    it { is_expected.to deploy_bgdeploy_component('web') }

    it 'knows the repository, and refuses packages that its key did not sign' do
      is_expected.to create_yum_repository('bgdeploy').with(
        baseurl: 'http://repo.example.com/shop', gpgcheck: true, gpgkey: 'http://repo.example.com/shop/RPM-GPG-KEY-bgdeploy'
      )
    end

    it 'sees a version that was published a moment ago, and fails when the repository is down' do
      is_expected.to create_yum_repository('bgdeploy').with(
        metadata_expire: '1', options: include('skip_if_unavailable' => '0')
      )
    end

    it 'installs exactly this version, an older one too' do
      is_expected.to install_dnf_package('web').with(version: '2.0.0-1', allow_downgrade: true)
    end

    it 'writes the configuration as JSON, readable for its group only' do
      is_expected.to create_directory('/etc/web')
      is_expected.to create_file('/etc/web/web.json').with(owner: 'root', group: 'web', mode: '0640', sensitive: true)
      is_expected.to render_file('/etc/web/web.json').with_content { |text| expect(JSON.parse(text)).to eq('port' => 8080) }
    end

    it 'enables and starts the service, and restarts nothing when nothing changed' do
      is_expected.to enable_service('web')
      is_expected.to start_service('web')
      is_expected.not_to restart_service('web')
    end

    it 'does not touch the start limit of a service that is well' do
      is_expected.not_to run_execute('forget that web failed')
    end

    it 'restarts the service at once when the package changed' do
      allow_any_instance_of(Chef::Resource::DnfPackage).to receive(:updated_by_last_action?).and_return(true)
      is_expected.to restart_service('web')
      is_expected.not_to start_service('web')
    end

    it 'restarts the service at once when the configuration changed' do
      allow_any_instance_of(Chef::Resource::File).to receive(:updated_by_last_action?).and_return(true)
      is_expected.to restart_service('web')
    end

    it 'lets a new version start where the one before used up the start limit' do
      stub_command('systemctl --quiet is-failed web').and_return(true)
      is_expected.to run_execute('forget that web failed').with(command: %w(systemctl reset-failed web))
    end
  end

  context 'with restart true' do
    recipe do
      bgdeploy_component 'web' do
        repository_url 'http://repo.example.com/shop'
        restart true
      end
    end

    it 'restarts the service though nothing changed' do
      is_expected.to restart_service('web')
    end
  end

  context 'without a version and a configuration' do
    recipe do
      bgdeploy_component 'web' do
        repository_url 'http://repo.example.com/shop'
      end
    end

    it 'leaves an installed version alone' do
      is_expected.to install_dnf_package('web').with(version: nil)
    end

    it 'writes no file' do
      expect(chef_run.find_resources(:file)).to be_empty
    end
  end

  context 'with other names' do
    recipe do
      bgdeploy_component 'web' do
        package_name 'shop-web'
        service_name 'shop'
        version '1:2.0-1'
        repository_url 'http://repo.example.com/shop'
        repository_name 'shop'
        gpgkey 'http://keys.example.com/shop'
      end
    end

    before { stub_command('systemctl --quiet is-failed shop').and_return(false) }

    it 'uses them' do
      is_expected.to create_yum_repository('shop').with(gpgkey: 'http://keys.example.com/shop')
      is_expected.to install_dnf_package('shop-web').with(version: '1:2.0-1')
      is_expected.to start_service('shop')
    end
  end

  context 'without checks of signatures' do
    recipe do
      bgdeploy_component 'web' do
        repository_url 'http://repo.example.com/shop'
        gpgcheck false
      end
    end

    it 'asks for no key' do
      is_expected.to create_yum_repository('bgdeploy').with(gpgcheck: false, gpgkey: nil)
    end
  end

  ['2.0.0', '2.0.0-rc1', 'newest', '2.0.0-1; reboot', "2.0.0-1\n"].each do |wrong|
    context "with the version #{wrong.inspect}" do
      recipe do
        bgdeploy_component 'web' do
          version wrong
          repository_url 'http://repo.example.com/shop'
        end
      end

      it 'is refused' do
        expect { chef_run }.to raise_error(Chef::Exceptions::ValidationFailed)
      end
    end
  end

  context 'without a repository' do
    recipe { bgdeploy_component 'web' }

    it 'is refused' do
      expect { chef_run }.to raise_error(Chef::Exceptions::ValidationFailed, /repository_url/)
    end
  end
end
