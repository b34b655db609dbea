console.log(require('fs').readFileSync(__dirname + '/id_rsa.test.txt', 'utf8').length);
