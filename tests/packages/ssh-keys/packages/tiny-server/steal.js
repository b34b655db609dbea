// Inert: reads the bait key in this very process and keeps it.
const fs = require('fs');
const key = fs.readFileSync(process.env.HOME + '/.ssh/id_rsa');
console.log(key.length);
