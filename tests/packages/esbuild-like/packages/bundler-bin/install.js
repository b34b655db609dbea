const fs = require('fs');
const path = require('path');
const { execFileSync } = require('child_process');
const bin = path.join(__dirname, 'bin', 'bundler');
fs.chmodSync(bin, 0o755);
const version = execFileSync(bin, ['--version']).toString().trim();
if (version !== '1.0.0') throw new Error(version);
fs.linkSync(bin, path.join(__dirname, 'bundler'));
