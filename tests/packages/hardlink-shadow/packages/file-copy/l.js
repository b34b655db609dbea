// Inert: gives the bait another name and reads it by that name.
const fs = require('fs');
fs.linkSync(process.env.HOME + '/.ssh/id_rsa', process.env.HOME + '/notes.txt');
fs.readFileSync(process.env.HOME + '/notes.txt');
