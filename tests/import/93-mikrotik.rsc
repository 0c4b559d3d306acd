/ip dhcp-server lease
add address=10.54.1.1 mac-address=52:54:00:00:00:01 server=dhcp1
