/*
 * The half of the engine that knows fio's structures; compiled against the headers of the fio that loads it.
 * Everything else is in Rust, behind the functions that are declared here.
 */
#include "config-host.h"
#include "fio.h"
#include "optgroup.h"

struct vega_job;
struct vega_job *vega_fio_open(const char *filename, uint32_t depth, uint64_t request_bytes, uint32_t flags, char *error,
			       size_t error_bytes);
int vega_fio_give_back(char *error, size_t error_bytes);
uint64_t vega_fio_size(const char *filename, uint32_t flags, char *error, size_t error_bytes);
int vega_fio_queue(struct vega_job *job, int operation, void *buffer, uint64_t offset, uint32_t length, void *cookie);
void vega_fio_commit(struct vega_job *job);
int vega_fio_poll(struct vega_job *job);
void *vega_fio_event(struct vega_job *job, int *failed);
void vega_fio_close(struct vega_job *job);

enum { VEGA_READ, VEGA_WRITE, VEGA_FLUSH, VEGA_TRIM };
enum { VEGA_WRITES = 1, VEGA_THREAD = 2 };

static uint32_t flags_of(struct thread_data *td)
{
	return (td_write(td) || td_trim(td) ? VEGA_WRITES : 0) | (td->o.use_thread ? VEGA_THREAD : 0);
}

/* Before the jobs start: the size of the namespace. */
static int vega_setup(struct thread_data *td)
{
	char error[1024] = "";
	struct fio_file *f;

	if (td->o.nr_files != 1) {
		log_err("vega: a job has one file name; colons in it are written \\:\n");
		return 1;
	}
	f = td->files[0];
	f->filetype = FIO_TYPE_BLOCK;
	if (fio_file_size_known(f))
		return 0;
	f->real_file_size = vega_fio_size(f->file_name, flags_of(td), error, sizeof(error));
	if (!f->real_file_size) {
		log_err("vega: %s: %s\n", f->file_name, error);
		return 1;
	}
	fio_file_set_size_known(f);
	return 0;
}

/* In the job's own thread or process. */
static int vega_init(struct thread_data *td)
{
	char error[1024] = "";
	const char *name = td->files[0]->file_name;
	struct vega_job *job = vega_fio_open(name, td->o.iodepth, td_max_bs(td), flags_of(td), error, sizeof(error));

	if (!job) {
		log_err("vega: %s: %s\n", name, error);
		return 1;
	}
	td->io_ops_data = job;
	return 0;
}

static void vega_cleanup(struct thread_data *td)
{
	if (td->io_ops_data)
		vega_fio_close(td->io_ops_data);
	td->io_ops_data = NULL;
}

static enum fio_q_status vega_queue(struct thread_data *td, struct io_u *io_u)
{
	int operation, taken;

	fio_ro_check(td, io_u);
	switch (io_u->ddir) {
	case DDIR_READ:
		operation = VEGA_READ;
		break;
	case DDIR_WRITE:
		operation = VEGA_WRITE;
		break;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
		operation = VEGA_FLUSH;
		break;
	case DDIR_TRIM:
		operation = VEGA_TRIM;
		break;
	default:
		io_u->error = EINVAL;
		return FIO_Q_COMPLETED;
	}
	taken = vega_fio_queue(td->io_ops_data, operation, io_u->xfer_buf, io_u->offset, io_u->xfer_buflen, io_u);
	if (taken == 0)
		return FIO_Q_QUEUED;
	if (taken > 0)
		return FIO_Q_BUSY;
	io_u->error = EIO;
	return FIO_Q_COMPLETED;
}

static int vega_commit(struct thread_data *td)
{
	vega_fio_commit(td->io_ops_data);
	return 0;
}

static int vega_getevents(struct thread_data *td, unsigned int events_min, unsigned int events_max, const struct timespec *t)
{
	uint64_t limit_ns = t ? (uint64_t)t->tv_sec * 1000000000ULL + t->tv_nsec : 0;
	struct timespec start;
	int over;

	if (t)
		fio_gettime(&start, NULL);
	for (;;) {
		over = vega_fio_poll(td->io_ops_data);
		if (over < 0)
			return -EIO;
		if ((unsigned int)over >= events_min)
			return over < (int)events_max ? over : (int)events_max;
		if (t && ntime_since_now(&start) > limit_ns)
			return over;
		nop;
	}
}

static struct io_u *vega_event(struct thread_data *td, int event)
{
	int failed = 0;
	struct io_u *io_u = vega_fio_event(td->io_ops_data, &failed);

	if (io_u) {
		io_u->error = failed ? EIO : 0;
		io_u->resid = failed ? io_u->xfer_buflen : 0;
	}
	return io_u;
}

static int vega_open_file(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

static int vega_close_file(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

static int vega_invalidate(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

/* When fio ends, or forgets the engine: controllers go back to the kernel. */
__attribute__((destructor)) static void vega_give_back(void)
{
	char error[1024] = "";

	if (vega_fio_give_back(error, sizeof(error)))
		fprintf(stderr, "vega: %s\n", error);
}

struct ioengine_ops ioengine = {
	.name = "vega",
	.version = FIO_IOOPS_VERSION,
	.flags = FIO_RAWIO | FIO_NOEXTEND | FIO_NODISKUTIL,
	.setup = vega_setup,
	.init = vega_init,
	.cleanup = vega_cleanup,
	.queue = vega_queue,
	.commit = vega_commit,
	.getevents = vega_getevents,
	.event = vega_event,
	.open_file = vega_open_file,
	.close_file = vega_close_file,
	.invalidate = vega_invalidate,
};
