# The repository that `invoke publish` writes. A site sets its own in a role, a Policyfile or a wrapper cookbook.
default['bgdeploy']['repository']['url'] = 'http://10.77.0.6:8000'
default['bgdeploy']['repository']['gpgkey'] = nil

# What a deployment tells: versions by component, and whose process is to be started anew though nothing changed.
default['bgdeploy']['versions'] = {}
default['bgdeploy']['restart'] = []
