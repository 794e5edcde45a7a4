# A heartbeat in Ruby, level basic. ruby shop.rb PORT FOLDER
require 'openssl'
require 'webrick'

port, folder = ARGV
STATE = File.join(folder, 'state')
TOKEN = File.read(File.join(folder, 'token')).strip
LOCK = Mutex.new

def word
  File.read(STATE).lines.first.to_s.chomp == 'live' ? 'live' : 'standby'
rescue SystemCallError
  'standby'
end

def store(text)
  LOCK.synchronize do
    File.open("#{STATE}.new", 'w') { |file| file.write("#{text}\n"); file.fsync }
    File.rename("#{STATE}.new", STATE)
    File.open(File.dirname(STATE), &:fsync)
  end
end

def flip(request)
  given = request['Authorization'] or return [401, "a token, please\n"]
  return [403, "wrong token\n"] unless OpenSSL.secure_compare(given, "Bearer #{TOKEN}")
  text = request.body.to_s.strip
  return [400, "live or standby\n"] unless %w[live standby].include?(text)
  store(text)
  [200, "#{text}\n"]
end

server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: port.to_i, AccessLog: [], Logger: WEBrick::Log.new(File::NULL))
server.mount_proc '/heartbeat' do |request, response|
  response.status, response.body = case [request.request_method, request.path]
                                   when %w[GET /heartbeat], %w[HEAD /heartbeat] then [200, "#{word}\n"]
                                   when %w[PUT /heartbeat] then flip(request)
                                   else [404, "no such page\n"]
                                   end
  response['Content-Type'] = 'text/plain'
  response['Cache-Control'] = 'no-store'
end
class WEBrick::HTTPServlet::ProcHandler     # WEBrick's procs take GET, POST and PUT; HEAD goes to GET by itself
  alias do_PUT do_GET
end
trap('TERM') { server.shutdown }
server.start
