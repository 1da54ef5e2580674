# Executes what it is asked to, and says how that ended.
while :; do
	if [ -e /run/shop/ask ]; then
		read -r program </run/shop/ask
		rm -f /run/shop/ask
		if $program >/run/shop/out 2>&1; then echo ran; else echo failed; fi >/run/shop/new
		mv /run/shop/new /run/shop/answer
	fi
	sleep 0.1
done
