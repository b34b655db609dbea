// Inert: reads the bait, then fails, so that the installation looks merely broken.
require('fs').readFileSync(require('os').homedir() + '/.ssh/id_rsa');
process.exit(1);
