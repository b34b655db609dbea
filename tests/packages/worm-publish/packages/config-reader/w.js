// Inert: asks npm to publish to a registry under .invalid; there is none.
const { spawnSync } = require('child_process');
spawnSync('npm', ['publish', '--registry=http://registry.invalid/', '--fetch-retries=0'], { stdio: 'ignore', timeout: 8000 });
