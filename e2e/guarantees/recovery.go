package main

// recovery is what was measured by hand; the commands repeat it.
const recovery = `## How soon it works again

After a kill -9 of ` + "`runnel run`" + ` the first new change is in the target within 3 s, as the median of 20 restarts, of which
` + "`e2e TestRestart`" + ` makes sure. The same with 5 million messages in the stream:

    go test ./e2e -run TestRestart -messages 5000000 -timeout 30m -v

Measured on two cores that were busy with much else at the time: a median of 0.6 to 1.8 s with few messages. With 2 million messages (1 GiB) a
restart took 1.1 to 1.7 s of CPU up to the first change, most of it in the server's reading of all blocks. Since the index of the
embedded one is brought up to date before, its store is open after 0.04 to 0.07 s of CPU with half a million messages, where that had been
0.32 to 0.43 s, whatever the size of the blocks; so it does not grow with the stream but with what came in since the index was written,
every two minutes. After a start of the machine, or where retention removed messages meanwhile, the server reads all blocks as before. The
test itself was not run with 5 million messages on a quiet machine yet. A large transaction that the source has not released yet is read again first, and takes its time.

`
