provides :bgdeploy_component
resource_name :bgdeploy_component
unified_mode true

description 'Installs one component from an RPM repository at exactly one version, older ones too, ' \
            'writes its configuration and runs its service.'
examples <<~DOC
  ```ruby
  bgdeploy_component 'web' do
    version '2.0.0-1'
    repository_url 'http://repo.example.com/shop'
    config_path '/etc/web/web.json'
    config('port' => 8080)
  end
  ```
DOC

property :component, String,
         name_property: true,
         description: 'The component. Package and service have its name unless told otherwise.'

property :package_name, String,
         default: lazy { component },
         default_description: 'the component',
         description: 'The RPM package.'

property :service_name, String,
         default: lazy { component },
         default_description: 'the component',
         description: 'The systemd service.'

property :version, [String, nil],
         regex: /\A(\d+:)?[A-Za-z0-9][A-Za-z0-9._+~^]*-\d[A-Za-z0-9._+~^]*\z/,
         description: 'Exactly this version, as RPM writes it: "2.0.0-1", epoch in front if it has one. ' \
                      'Without it whatever is installed stays.'

property :repository_url, String,
         required: true,
         description: 'The folder with repodata/.'

property :repository_name, String,
         default: 'bgdeploy',
         description: 'Id of the repository on the host.'

property :gpgkey, String,
         default: lazy { "#{repository_url}/RPM-GPG-KEY-bgdeploy" },
         default_description: 'RPM-GPG-KEY-bgdeploy in the repository',
         description: 'URL of the key that signs the packages.'

property :gpgcheck, [true, false],
         default: true,
         description: 'Refuse packages that are not signed by that key.'

property :config_path, String,
         description: 'The configuration file; without it none is written.'

property :config, Hash,
         default: {},
         sensitive: true, # Chef prints the properties of a resource that failed
         description: 'The configuration, written as JSON.'

property :config_owner, String,
         default: 'root',
         description: 'Owner of the configuration file.'

property :config_group, String,
         default: 'root',
         description: 'Group of the configuration file.'

property :config_mode, String,
         default: '0644',
         description: 'Mode of the configuration file.'

property :config_sensitive, [true, false],
         default: true,
         description: 'Keep differences of the configuration out of logs: they would show its passwords.'

property :restart, [true, false],
         default: false,
         desired_state: false,
         description: 'Start the process anew even if nothing changed: for one that is older than its package, ' \
                      'after a run that was cut short.'

action :deploy, description: 'Bring package, configuration and service to what the properties say. (default)' do
  yum_repository new_resource.repository_name do
    description "Packages of #{new_resource.repository_name}"
    baseurl new_resource.repository_url
    gpgcheck new_resource.gpgcheck
    gpgkey new_resource.gpgkey if new_resource.gpgcheck
    # A version that was published a moment ago must be found, whatever the host's dnf.conf says.
    metadata_expire '1'
    # A repository that is down is an error that says so, not a version that cannot be found.
    options 'skip_if_unavailable' => '0', 'retries' => '1', 'timeout' => '5'
    make_cache false
  end

  package = dnf_package new_resource.package_name do
    version new_resource.version if new_resource.version
    allow_downgrade true
  end

  if new_resource.config_path
    directory ::File.dirname(new_resource.config_path) do
      mode '0755'
    end

    config = file new_resource.config_path do
      content "#{Chef::JSONCompat.to_json_pretty(new_resource.config)}\n"
      owner new_resource.config_owner
      group new_resource.config_group
      mode new_resource.config_mode
      sensitive new_resource.config_sensitive
    end
  end

  # A version whose process ended at once has used up systemd's start limit; the next version must not pay for that.
  execute "forget that #{new_resource.service_name} failed" do
    command ['systemctl', 'reset-failed', new_resource.service_name]
    only_if "systemctl --quiet is-failed #{new_resource.service_name}"
  end

  # At once, and not by a delayed notification: a run that is killed in between leaves the old process over the new package,
  # and no later run would notice. It also makes the first installation one start instead of a start and a restart.
  changed = [package, config].compact.any?(&:updated_by_last_action?)

  service new_resource.service_name do
    action [:enable, changed || new_resource.restart ? :restart : :start]
  end
end
