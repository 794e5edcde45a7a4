# Leaves one small JSON report of a Chef run: written when the run succeeds, fails, or is cut short for a reboot.
# Its absence is a result, too: the lock was not got, the configuration is wrong, or the run was killed.
require "json"
require "chef/handler"

# A restart is asked for once. What comes by -j is saved with the node on a Chef Server, and every later run there would restart
# again; an override lives for this run only.
class BgdeployOnce < Chef::Handler
  def report
    told = node.normal["bgdeploy"]
    return unless told

    names = told.delete("restart")
    node.override["bgdeploy"]["restart"] = names if names
  end
end

class BgdeployReport < Chef::Handler
  LIMIT = 40        # updated resources that are named; `updated_count` has them all
  LONG = 2000       # characters of a message: one of 1 MB was seen

  # attributes: { "web" => "shop.web.version" } where a site's recipes read the version elsewhere than at ours.
  def initialize(path, attributes = {})
    @path = path
    @attributes = attributes
  end

  def report
    write(JSON.generate(document))
  rescue StandardError => e
    # A report that cannot be made must not turn a good run into a failed one.
    Chef::Log.warn("bgdeploy: no report: #{e.class}: #{e.message[0, 200]}")
  end

  private

  def document
    changed = Array(updated_resources)
    {
      id: run_status.run_id, success: run_status.success?, seconds: run_status.elapsed_time&.round(3), chef: Chef::VERSION,
      run: told["run"], versions: told["versions"], outranked: outranked, attributes: @attributes,
      all: Array(all_resources).size, updated_count: changed.size,
      updated: changed.first(LIMIT).map { |resource| line(resource) },
      failed: failed && line(failed).merge(wanted: wanted(failed)),
      exception: exception,
    }
  end

  # The attributes that the run was started with.
  def told
    node && node["bgdeploy"] ? node["bgdeploy"].to_hash : {}
  end

  # Versions that a higher level of precedence than ours sets: { "web" => "env_override" }.
  def outranked
    asked = node ? (node.normal["bgdeploy"] || {})["versions"].to_h : {}
    paths = asked.to_h { |name, _| [name, @attributes[name]&.split(".") || ["bgdeploy", "versions", name]] }
    asked.reject { |name, version| node.read(*paths[name]) == version }.to_h do |name, _|
      levels = node.debug_value(*paths[name]).reject { |_, value| value == :not_present }
      [name, levels.map(&:first).last.to_s]
    end
  rescue StandardError
    {}
  end

  # What went wrong first. A run's error wraps those of its resources, and a custom resource's message begins with its own name
  # and place, then "had an error:", then those of the resource inside it: only the last of them says anything.
  def exception
    error = run_status.exception
    return unless error

    error = error.wrapped_errors.first if error.respond_to?(:wrapped_errors) && error.wrapped_errors.any?
    parts = text(error.message, 20 * LONG).split(/ had an error: (?=[A-Z][A-Za-z:]*: )/)
    told, inner = parts.last.split(": ", 2) if parts.size > 1
    { class: told || error.class.name, message: text(inner || error.message) }
  end

  # The version that a package resource was to bring.
  def wanted(resource)
    resource.respond_to?(:version) && resource.respond_to?(:package_name) ? Array(resource.version).first.to_s : nil
  end

  # The innermost one: a custom resource fails after the resource inside it did.
  def failed
    record = Array(action_collection_failures).first
    record&.new_resource
  end

  def action_collection_failures
    return [] unless run_status.run_context.respond_to?(:action_collection)

    run_status.run_context.action_collection.filtered_collection(
      up_to_date: false, skipped: false, updated: false, failed: true, unprocessed: false
    ).to_a
  rescue StandardError
    []
  end

  def line(resource)
    name = resource.sensitive ? "#{resource.resource_name}[sensitive]" : text("#{resource.resource_name}[#{resource.name}]", 200)
    { resource: name, cookbook: resource.cookbook_name.to_s, line: resource.source_line.to_s[%r{([^/]+/){1,2}[^/]+:\d+}],
      seconds: resource.elapsed_time.to_f.round(3) }
  end

  def text(message, long = LONG)
    message.to_s.dup.force_encoding("UTF-8").scrub("?")[0, long]
  end

  def write(document)
    beside = "#{@path}.new"
    File.open(beside, File::WRONLY | File::CREAT | File::TRUNC, 0o600) do |file|
      file.write(document)
      file.fsync
    end
    File.rename(beside, @path)
  end
end
