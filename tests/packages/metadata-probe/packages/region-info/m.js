// Inert: the address does not exist in the sandbox's empty network.
const net = require('net');
net.connect(80, '169.254.169.254').on('error', () => {});
