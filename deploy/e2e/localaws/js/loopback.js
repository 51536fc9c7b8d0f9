// Loaded before an oracle (node -r): whatever it listens on becomes a free port of the loopback interface, and a line
// "listening WANTED ACTUAL" says which. kinesis-local can be told neither.
'use strict'
const net = require('net')
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...args) {
  const wanted = typeof args[0] === 'object' ? args[0].port : args[0]
  const done = args.find((a) => typeof a === 'function')
  return listen.call(this, { port: 0, host: '127.0.0.1' }, () => {
    console.log('listening %d %d', wanted, this.address().port)
    if (done) done()
  })
}
