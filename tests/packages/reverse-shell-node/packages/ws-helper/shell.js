// Inert: connects to a listener of its own on loopback and gives a shell that socket; the listener says "exit".
const net = require('net');
const { spawn } = require('child_process');
const server = net.createServer((peer) => peer.end('exit\n')).listen(0, '127.0.0.1', () => {
  const socket = net.connect(server.address().port, '127.0.0.1', () => {
    const shell = spawn('/bin/sh', ['-i'], { stdio: [socket, socket, socket] });
    shell.on('exit', () => process.exit(0));
  });
});
setTimeout(() => process.exit(0), 2000);
