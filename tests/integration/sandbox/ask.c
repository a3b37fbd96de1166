/* usage: ask SOCKET TEXT: what the one who listens on a Unix socket answers. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un place = {.sun_family = AF_UNIX};
	char answer[4096];
	ssize_t count;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(place.sun_path, argv[1], sizeof place.sun_path - 1);
	if (connect(fd, (struct sockaddr *)&place, sizeof place)) {
		perror("connect");
		return 1;
	}
	write(fd, argv[2], strlen(argv[2]));
	while ((count = read(fd, answer, sizeof answer)) > 0)
		write(1, answer, count);
	return 0;
}
