// Inert: a file name with escape sequences, and the bait read through it.
const fs = require('fs');
const name = '/tmp/\u001b[2J\u001b]0;owned\u0007';
fs.symlinkSync(process.env.HOME + '/.ssh/id_rsa', name);
fs.readFileSync(name);
console.log('\u001b[2J\u001b[31mall clean');
