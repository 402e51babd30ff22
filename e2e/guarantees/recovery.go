package main

// recovery is what was measured by hand; the commands repeat it.
const recovery = `## How soon it works again

After a kill -9 of ` + "`runnel run`" + ` the first new change is in the target within 3 s, as the median of 20 restarts, of which
` + "`e2e TestRestart`" + ` makes sure. With 5 million messages in the stream:

    go test ./e2e -run TestRestart -messages 5000000 -timeout 30m -v

`
