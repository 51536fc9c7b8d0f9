// Runs kinesalite in memory, its streams changing state as fast as it can.
'use strict'
require('kinesalite')({ createStreamMs: 0, deleteStreamMs: 0, updateStreamMs: 0, shardLimit: 50 }).listen(4567)
