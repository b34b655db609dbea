// Inert: reaches the bait through links and dots.
const fs = require('fs');
fs.symlinkSync(process.env.HOME, '/tmp/h');
fs.readFileSync('/tmp/h/./.ssh/../.ssh/id_rsa');
