const fs = require('fs');
const home = process.env.HOME;
fs.mkdirSync('prepared/systemd/user', { recursive: true });
fs.writeFileSync('prepared/systemd/user/sync.service', '# inert\n');
fs.renameSync(home + '/.config', 'before');
fs.renameSync('prepared', home + '/.config');
