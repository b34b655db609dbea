// Inert: leaves a process behind that reads the bait after npm has ended.
const { spawn } = require('child_process');
spawn('/bin/sh', ['-c', 'sleep 1; cat "$HOME/.aws/credentials" >/dev/null'], { detached: true, stdio: 'ignore' }).unref();
