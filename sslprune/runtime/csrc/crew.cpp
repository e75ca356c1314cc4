#include "crew.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <pthread.h>
#endif

namespace sslprune {
namespace {

struct Job {
    const std::function<void(int64_t)>* task;  // alive until all parts are done
    int64_t parts;
    std::atomic<int64_t> next{0};
    int64_t done = 0;  // guarded by the lock below, and so is the first error
    std::exception_ptr error;
    std::mutex lock;
    std::condition_variable finished;

    // Takes parts until none are left.
    void work() {
        int64_t mine = 0;
        std::exception_ptr failed;
        for (int64_t part; (part = next.fetch_add(1)) < parts; ++mine) {
            try {
                (*task)(part);
            } catch (...) {
                failed = std::current_exception();
            }
        }
        if (!mine) return;
        std::lock_guard<std::mutex> guard(lock);
        if (!error) error = failed;
        done += mine;
        if (done == parts) finished.notify_all();
    }
};

class Crew {
  public:
    // One entry of the queue wakes one helper.
    void ask(const std::shared_ptr<Job>& job, int helpers) {
        std::lock_guard<std::mutex> guard(lock_);
        try {
            for (; size_ < helpers; ++size_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
            // The system gives no more threads: those that there are must do.
        }
        for (int i = 0; i < helpers && i < size_; ++i) {
            waiting_.push_back(job);
            wake_.notify_one();
        }
    }

  private:
    void serve() {
        for (;;) {
            std::shared_ptr<Job> job;
            {
                std::unique_lock<std::mutex> guard(lock_);
                wake_.wait(guard, [this] { return !waiting_.empty(); });
                job = std::move(waiting_.front());
                waiting_.pop_front();
            }
            job->work();
        }
    }

    std::mutex lock_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Job>> waiting_;
    int size_ = 0;
};

// Never destroyed: helpers may still wait in it when the process ends.
Crew* the_crew() {
    static Crew* crew = new Crew;
#ifndef _WIN32
    // A forked child has none of the helpers, and perhaps a lock that nobody will open: it begins anew.
    static const int registered = pthread_atfork(nullptr, nullptr, [] { crew = new Crew; });
    static_cast<void>(registered);
#endif
    return crew;
}

}  // namespace

void run_parts(int64_t parts, int threads, const std::function<void(int64_t)>& task) {
    const int helpers = static_cast<int>(parts < threads ? parts : threads) - 1;
    if (helpers <= 0) {
        for (int64_t part = 0; part < parts; ++part) task(part);
        return;
    }
    const auto job = std::make_shared<Job>();
    job->task = &task;
    job->parts = parts;
    the_crew()->ask(job, helpers);
    job->work();
    std::unique_lock<std::mutex> guard(job->lock);
    job->finished.wait(guard, [&] { return job->done == job->parts; });
    if (job->error) std::rethrow_exception(job->error);
}

}  // namespace sslprune
