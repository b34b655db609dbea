const proxy = process.env.HTTPS_PROXY || process.env.https_proxy || process.env.npm_config_https_proxy;
const at = new URL(proxy);
const socket = require('net').connect(Number(at.port), at.hostname);
socket.on('data', (data) => { console.log(String(data).slice(0, 30)); process.exit(0); });
socket.on('close', () => process.exit(0));
socket.write('\r\nCONNECT collect.invalid:443 HTTP/1.1\r\n\r\n');
