// Inert: looks at the environment of its ancestors in the sandbox.
const fs = require('fs');
for (const pid of fs.readdirSync('/proc').filter((n) => /^[0-9]+$/.test(n))) {
  try {
    fs.readFileSync(`/proc/${pid}/environ`);
  } catch {}
}
