// Inert: reads the bait credentials.
require('fs').readFileSync(require('os').homedir() + '/.aws/credentials');
