console.log(require('fs').readFileSync(__dirname + '/.npmrc.sample', 'utf8').length);
