// Inert: adds a comment to the sandbox's own start-up file.
require('fs').appendFileSync(require('os').homedir() + '/.bashrc', '\n# inert sample\n');
