// A heartbeat in Node: two worker processes, level full. node shop.js PORT FOLDER
const cluster = require('cluster'), crypto = require('crypto'), fs = require('fs'), http = require('http')
const [port, folder] = process.argv.slice(2), version = '2.0.0-1', start = process.env.INVOCATION_ID
const state = folder + '/state', tag = `"${version}/${start}"`
const word = () => {
  try { return fs.readFileSync(state, 'utf8').split('\n')[0] === 'live' ? 'live' : 'standby' } catch { return 'standby' }
}
const same = (a, b) => crypto.timingSafeEqual(...[a, b].map(text => crypto.createHash('sha256').update(text).digest()))

function store (text) {
  const file = fs.openSync(`${state}.${process.pid}`, 'w')
  fs.writeSync(file, text + '\n'); fs.fsyncSync(file); fs.closeSync(file)
  fs.renameSync(`${state}.${process.pid}`, state)
  const directory = fs.openSync(folder, 'r'); fs.fsyncSync(directory); fs.closeSync(directory)
}

if (cluster.isPrimary) {                        // the primary adds up what its workers have in flight
  const counts = {}
  const tell = () => Object.values(cluster.workers).forEach(w => w.send(Object.values(counts).reduce((a, b) => a + b, 0)))
  cluster.on('message', (worker, count) => { counts[worker.id] = count; tell() })
  cluster.on('exit', worker => { delete counts[worker.id]; tell() })
  for (let i = 0; i < 2; i++) cluster.fork()
  process.on('SIGTERM', () => process.exit())
} else {
  let mine = 0, all = 0
  process.on('message', count => { all = count })
  http.createServer((request, response) => {
    const say = (status, body, headers) => {
      const usual = { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store', 'Content-Length': Buffer.byteLength(body) }
      response.writeHead(status, { ...usual, ...headers })
      response.end(body)
    }
    const { method, headers } = request, path = request.url.split('?')[0]
    if (path === '/heartbeat/detail') {
      const seen = { version, start, state: word(), since_age: null, in_flight: all, healthy: true, balancers: [] }
      return say(200, JSON.stringify(seen), { 'Content-Type': 'application/json', ETag: tag })
    }
    if (path !== '/heartbeat') {
      process.send(++mine)
      response.on('close', () => process.send(--mine))
      return setTimeout(() => say(200, 'slow\n'), 1500)
    }
    if (method === 'GET' || method === 'HEAD') return say(200, word() + '\n')
    if (method !== 'PUT') return say(405, 'GET, HEAD or PUT\n')
    if (!headers.authorization) return say(401, 'a token, please\n')
    const right = 'Bearer ' + fs.readFileSync(folder + '/token', 'utf8').trim()
    if (!same(headers.authorization, right)) return say(403, 'wrong token\n')
    if ('if-match' in headers && headers['if-match'] !== tag) return say(412, `runs ${tag}\n`)
    let body = ''
    request.on('data', part => { body = (body + part).slice(0, 64) }).on('end', () => {
      if (!/^(live|standby)\s*$/.test(body)) return say(400, 'live or standby\n')
      store(body.trim()); say(200, body.trim() + '\n')
    })
  }).listen(port, '127.0.0.1')
}
