"""chef-client's configuration on this host: what the site wrote in client.rb, and the small file that a run wraps round it."""

import json
import os
import re

from bgdeploy_host import files

LIBRARY = "/usr/lib/bgdeploy-host"
OWN_LOCK = files.CACHE + "/chef.lock"   # while the site's lock is kept for our runs (reserve.py)
DEFAULT_CACHE = "/var/chef/cache"       # Chef's own default for root, so that a plain chef-client run takes the same lock
_SETTING = r"""^\s*{}\s*\(?\s*["']([^"'#]+)["']"""
_LICENCES = ("/etc/chef/accepted_licenses", "/root/.chef/accepted_licenses")


def setting(at, name):
    """:returns: a quoted value as client.rb sets it (the last one), or None. Ruby that computes it is not understood."""
    found = re.findall(_SETTING.format(name), files.read_text(at(files.CLIENT), 1 << 18), re.MULTILINE)
    return found[-1] if found else None


def cache(at):
    """The folder of Chef's run lock. Every run of ours pins it: local mode would take another one, and no lock would hold."""
    return setting(at, "file_cache_path") or DEFAULT_CACHE


def lockfile(at):
    return setting(at, "lockfile") or cache(at) + "/chef-client-running.pid"


def licence(at):
    """Is Chef's licence accepted in a file on this host, or in client.rb? (CHEF_LICENSE of a person's shell does not count.)"""
    if re.match("accept", setting(at, "chef_license") or ""):
        return True
    for folder in _LICENCES:
        try:
            if os.listdir(at(folder)):
                return True
        except OSError:
            continue
    return False


def proxies(at):
    """:returns: names of proxy settings in client.rb: they also catch the repository's and the Chef Server's traffic."""
    return [name for name in ("http_proxy", "https_proxy") if setting(at, name)]


def config(at, asked, folder):
    """The configuration of one run: the site's client.rb first, then only what the run needs.

    Measured: `-z` does not read /etc/chef/client.rb, a missing -c file falls back silently to defaults; from_file keeps
    the site's settings.
    """
    quoted = json.dumps         # a JSON string of these plain characters is a Ruby string as well
    pairs = sorted((asked.get("attributes") or {}).items())
    paths = ", ".join("{} => {}".format(quoted(name), quoted(path)) for path, name in pairs)
    lines = ["# made by bgdeploy-host for one run",
             "from_file {0} if File.exist?({0})".format(quoted(files.CLIENT)),
             "file_cache_path {}".format(quoted(cache(at))),
             "lockfile {}".format(quoted(OWN_LOCK if asked.get("reserve") else lockfile(at)))]
    if asked["mode"] == "local":
        # Without a path of its own, local mode would keep its nodes beside the cookbooks.
        lines += ["chef_repo_path {}".format(quoted(files.HOME + "/repo")),
                  "cookbook_path [{}]".format(quoted(files.COOKBOOKS + "/" + asked["cookbooks"]))]
    else:
        # A Chef Server that is down is told after seconds; Chef's own five retries took 77 s when tried.
        lines += ["http_retry_count 2", "http_retry_delay 1"]
    if asked.get("minimal-ohai"):
        lines.append("minimal_ohai true")
    lines += ["require {}".format(quoted(LIBRARY + "/bgdeploy_handler.rb")),
              "bgdeploy_report = BgdeployReport.new({}, {{{}}})".format(quoted(folder + "/report.json"), paths),
              "start_handlers << BgdeployOnce.new",
              "report_handlers << bgdeploy_report",
              "exception_handlers << bgdeploy_report"]
    return "\n".join(lines) + "\n"
