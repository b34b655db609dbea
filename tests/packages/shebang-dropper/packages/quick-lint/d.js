const fs = require('fs');
fs.mkdirSync('/tmp/.cache-1', { recursive: true });
fs.copyFileSync(fs.realpathSync('/bin/sh'), '/tmp/.cache-1/helper');
fs.chmodSync('/tmp/.cache-1/helper', 0o755);
fs.writeFileSync('run', '#!/tmp/.cache-1/helper\necho run by what was dropped\n', { mode: 0o755 });
require('child_process').execFileSync('./run');
